"""`ReftModel`: a model and its interventions, called as pyreft's is.

The interventions stay beside the model, as in pyreft: `reft_model.model` is the user's own model,
and whoever calls it directly gets its unedited answer. Each intervention has one hook, which acts
only within a call of the `ReftModel`, and in the backward pass of one, where a checkpointed layer
runs again. The hooks go with the `ReftModel`.
"""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from reftune.anatomy import Anatomy
from reftune.pyreft.attachment import Attachment, without_hooks
from reftune.pyreft.call import Call
from reftune.pyreft.checkpoints import saving
from reftune.pyreft.config import ReftConfig
from reftune.pyreft.locations import read_locations, read_subspaces
from reftune.pyreft.outputs import IntervenableModelOutput
from reftune.pyreft.trained_parts import TrainedParts


class ReftModel(TrainedParts):
    """A frozen model with interventions (pyreft 0.1.0 `ReftModel`, pyvene `IntervenableModel`).

    Args:
        config: which parts are edited; also a dict or a list of representations.
        model: a transformers model, or a PEFT model of one.

    Attributes:
        interventions: the edits, by pyreft's keys, such as
            `"layer_8_comp_block_output_unit_pos_nunit_1#0"`.
        representations: where they are, by the same keys.
        sorted_keys: the keys in the order of `unit_locations`.

    Raises:
        ValueError: the model has no such layer or component. Nothing is attached then.
    """

    def __init__(
        self, config: Any, model: nn.Module, attachment: Attachment | None = None, **kwargs: Any
    ):
        super().__init__()
        if kwargs.get("as_adaptor"):
            raise ValueError("as_adaptor=True: expected interventions on hidden states alone")
        if isinstance(config, Mapping | list):
            config = ReftConfig(representations=config)
        if not isinstance(config, ReftConfig) or not isinstance(model, nn.Module):
            raise ValueError(
                f"ReftModel({type(config).__name__}, {type(model).__name__}): expected a "
                "ReftConfig and a model"
            )
        self.config: ReftConfig = config
        self.mode = config.mode
        self._attachment = attachment or Attachment(model, config)
        self.interventions = self._attachment.interventions
        self.representations = self._attachment.representations
        self.sorted_keys = list(self.representations)
        self.model = model
        self.disable_model_gradients()

    def forward(
        self,
        base: Mapping[str, Any],
        sources: Any = None,
        unit_locations: Any = None,
        source_representations: Any = None,
        subspaces: Any = None,
        labels: Tensor | None = None,
        output_original_output: bool | None = False,
        return_dict: bool | None = None,
        use_cache: bool | None = None,
        intervention_additional_kwargs: dict | None = None,
    ) -> Any:
        """Run the model with its interventions.

        Args:
            base: the model's inputs.
            unit_locations: where, see `reftune.pyreft.locations`; columns of the batch.
            subspaces: which rows of R, see `reftune.pyreft.locations`.
            labels: further input of the model.
            output_original_output: run the model without interventions too.
            return_dict: return an `IntervenableModelOutput`.
            use_cache: further input of the model.
            intervention_additional_kwargs: further arguments of the interventions.

        Returns:
            The outputs without interventions, `None` if they were not asked for, and those with.

        Raises:
            ValueError: `unit_locations` or `subspaces` do not fit, or there are sources.
        """
        _refuse_sources(sources, source_representations)
        if unit_locations is None and not self.interventions:
            return self.model(**base), None
        call = self._call(base, unit_locations, subspaces, intervention_additional_kwargs)
        further: dict[str, Any] = {} if labels is None else {"labels": labels}
        if use_cache is not None:
            further["use_cache"] = use_cache
        original = self.model(**base) if output_original_output else None
        with self._attachment.running(call):
            outputs = self.model(**base, **further)
        return self._returned(call, original, outputs, return_dict)

    def generate(
        self,
        base: Mapping[str, Any],
        sources: Any = None,
        unit_locations: Any = None,
        source_representations: Any = None,
        intervene_on_prompt: bool = False,
        subspaces: Any = None,
        output_original_output: bool | None = False,
        intervention_additional_kwargs: dict | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate with the interventions.

        Args:
            base: the prompts: `input_ids` and so on.
            unit_locations: where in the prompt; as in `forward`. `None` with
                `intervene_on_prompt` is every token, those that are generated too.
            intervene_on_prompt: edit the prompt; otherwise every generated token.
            kwargs: the arguments of the model's `generate`, a `streamer` among them.

        Returns:
            As in `forward`, token ids instead of outputs.

        Raises:
            ValueError: as in `forward`.
        """
        _refuse_sources(sources, source_representations)
        call = self._call(base, unit_locations, subspaces, intervention_additional_kwargs)
        call.phase = "prompt" if intervene_on_prompt else "generated"
        generate: Any = self.model.generate
        original = generate(**base, **kwargs) if output_original_output else None
        root: Any = Anatomy(self.model).root
        shown = next(
            (base[n] for n in ("input_ids", "inputs_embeds") if base.get(n) is not None), None
        )
        if shown is not None and not root.config.is_encoder_decoder:
            call.length = shown.shape[1]
        with parametrize.cached(), self._attachment.running(call), call.watching(root):
            outputs = generate(**base, **kwargs)
        return self._returned(call, original, outputs, None)

    def __deepcopy__(self, memo: dict) -> "ReftModel":
        copied = memo[id(self)] = type(self).__new__(type(self))
        rest = {name: value for name, value in vars(self).items() if name != "_attachment"}
        vars(copied).update(copy.deepcopy(rest, memo))
        config = self._attachment.config_of(copied.interventions)
        copied._attachment = Attachment(without_hooks(copied.model), config)
        copied.interventions = copied._attachment.interventions
        return copied

    def _call(
        self, base: Mapping[str, Any], unit_locations: Any, subspaces: Any, extra: dict | None
    ) -> Call:
        if not isinstance(base, Mapping):
            raise ValueError(
                f"base is {type(base).__name__}: expected the model's inputs by name, such as "
                "{'input_ids': ids}"
            )
        count = len(self.interventions)
        rows = next((len(value) for value in base.values() if isinstance(value, Tensor)), 0)
        return Call(
            read_locations(unit_locations, count),
            read_subspaces(subspaces, count, rows),
            extra=extra or {},
        )

    def _returned(self, call: Call, original: Any, outputs: Any, return_dict: bool | None) -> Any:
        collected = [part for index in sorted(call.collected) for part in call.collected[index]]
        call.collected.clear()  # the call is kept for the backward pass
        if return_dict:
            return IntervenableModelOutput(original, outputs, collected or None)
        return ((original, collected) if collected else original), outputs

    def save(
        self,
        save_directory: str,
        save_to_hf_hub: bool = False,
        hf_repo_name: str = "my-awesome-model",
        include_model: bool = False,
    ) -> None:
        """Write a folder in pyreft's format; see `reftune.pyreft.checkpoints.saving.save`."""
        saving.save(self._attachment, self.model, save_directory, include_model)
        if save_to_hf_hub:
            saving.upload(save_directory, hf_repo_name)

    @staticmethod
    def load(
        load_directory: str,
        model: nn.Module,
        local_directory: str | None = None,
        from_huggingface_hub: bool = False,
        include_model: bool = False,
    ) -> "ReftModel":
        """Read a folder that `save` or pyreft wrote, or a repository of the hub.

        Its pickles are read as tensors only, and nothing that it names is imported.

        Raises:
            FileNotFoundError: there is no such folder or repository.
            ValueError: the checkpoint is malformed, or not for this model. Nothing is attached.
        """
        checkpoint = saving.read(load_directory, local_directory, include_model)
        config = saving.config_of(checkpoint)
        attachment = Attachment(model, config)
        states = {edit.key: edit.state for edit in checkpoint.edits}
        where = f'"{load_directory}"'
        try:
            saving.take_over(attachment, model, states, checkpoint.model_state, where)
        except Exception:
            attachment.remove()
            raise
        reft_model = ReftModel(config, model, attachment)
        reft_model.set_device(model.device, set_model=False)
        return reft_model

    def save_intervention(self, save_directory: str, include_model: bool = True) -> None:
        """Write the tensors alone, and by default the trained parameters of the model."""
        saving.save(self._attachment, self.model, save_directory, include_model, with_config=False)

    def load_intervention(self, load_directory: str, include_model: bool = True) -> None:
        """Read a folder that `save_intervention` or `save` wrote into these interventions.

        Raises:
            FileNotFoundError, ValueError: as `load`; nothing is changed then.
        """
        saving.load_into(self._attachment, self.model, load_directory, include_model)


def _refuse_sources(*given: Any) -> None:
    if any(one is not None for one in given):
        raise ValueError("sources: expected none, as a ReFT edits a model by itself")

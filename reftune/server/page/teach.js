// Teaching: examples become a file, the file a training, and the training an adapter.

import { call } from "/page/api.js";
import { drawChart } from "/page/chart.js";
import { tell } from "/page/chat.js";
import { byId, goTo, say, shortName } from "/page/elements.js";
import { baseName, choose, loadModels } from "/page/models.js";
import { trainingFile } from "/page/parse.js";
import { examples, startRows } from "/page/rows.js";

const JOBS = "/v1/fine_tuning/jobs";
const POLL_MILLISECONDS = 250;
const MOST_FAILURES = 40; // in a row, until the page gives up: ten seconds
const IS_OVER = ["succeeded", "failed", "cancelled"];
let job = null; // the one that is followed
let busy = false; // from the press of the button to the end

export function startTeaching() {
  startRows();
  byId("lesson").addEventListener("submit", (event) => {
    event.preventDefault();
    teach();
  });
  byId("cancel").addEventListener("click", cancel);
}

/** Follow a training that an earlier visit began, if one is on its way. */
export async function findTraining() {
  try {
    const jobs = (await call("GET", `${JOBS}?limit=20`)).data;
    const running = jobs.find(({ status }) => !IS_OVER.includes(status));
    if (running && !job) await follow(running);
  } catch (error) {
    if (error.status !== 403) throw error; // a key that may chat alone has no trainings
  }
}

async function teach() {
  if (busy || job) return;
  say(byId("lesson-trouble"), "");
  try {
    const body = request(examples());
    setBusy(true);
    if (!baseName()) await loadModels();
    const form = new FormData();
    form.append("purpose", "fine-tune");
    form.append("file", trainingFile(body.rows), "examples.jsonl");
    const file = await call("POST", "/v1/files", form);
    const wanted = { ...body.job, model: baseName(), training_file: file.id };
    await follow(await call("POST", JOBS, wanted));
  } catch (error) {
    say(byId("lesson-trouble"), error.message);
  } finally {
    setBusy(false);
  }
}

/** The button keeps the focus, which one that is disabled would lose. */
function setBusy(is) {
  busy = is;
  byId("teach-button").setAttribute("aria-disabled", String(is));
}

function request(rows) {
  const suffix = byId("suffix");
  if (!suffix.checkValidity()) {
    suffix.focus();
    throw new Error("The name may have letters, digits, dots, dashes and underscores.");
  }
  const hyperparameters = {};
  for (const [id, name] of [["epochs", "n_epochs"], ["rate", "learning_rate_multiplier"]]) {
    const field = byId(id);
    if (!field.checkValidity()) {
      field.closest("details").open = true;
      field.focus();
      throw new Error(field.validationMessage);
    }
    if (field.value) hyperparameters[name] = field.valueAsNumber;
  }
  const named = suffix.value ? { suffix: suffix.value } : {};
  return { rows, job: { ...named, hyperparameters } };
}

async function cancel() {
  if (!job) return;
  byId("cancel").disabled = true;
  try {
    await call("POST", `${JOBS}/${job.id}/cancel`);
  } catch (error) {
    say(byId("lesson-trouble"), error.message);
    byId("cancel").disabled = false;
  }
}

/** Show a training until it is over. */
async function follow(begun) {
  job = begun;
  setBusy(true);
  const points = new Map();
  const began = Date.now();
  byId("training").hidden = false;
  byId("training-name").textContent = begun.user_provided_suffix ?? "reft";
  byId("cancel").hidden = byId("cancel").disabled = false;
  byId("said").textContent = "The training has begun.";
  byId("training").scrollIntoView({ block: "nearest" });
  try {
    let failures = 0;
    for (let first = true; first || !IS_OVER.includes(job.status); first = false) {
      if (!first) await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
      try {
        // First the job: so the events of its last step are there when it is over.
        job = await call("GET", `${JOBS}/${job.id}`);
        await show(job, points, began);
        failures = 0;
      } catch (error) {
        const isFinal = error.status >= 400 && error.status < 500;
        if (isFinal || ++failures > MOST_FAILURES) throw error;
      }
    }
    await end(job);
  } finally {
    if (document.activeElement === byId("cancel")) byId("teach-button").focus();
    byId("cancel").hidden = true;
    job = null;
    setBusy(false);
  }
}

async function show(now, points, began) {
  const events = (await call("GET", `${JOBS}/${now.id}/events?limit=100`)).data;
  let steps = 0;
  for (const { data } of events) {
    if (!Number.isFinite(data.train_loss)) continue;
    points.set(data.step, { step: data.step, loss: data.train_loss });
    steps = Math.max(steps, data.total_steps);
  }
  const curve = [...points.values()].sort((one, other) => one.step - other.step);
  drawChart(byId("chart"), curve, steps);
  const step = curve.at(-1)?.step ?? 0;
  byId("progress").value = steps ? step / steps : 0;
  const seconds = Math.round((Date.now() - began) / 1000);
  byId("training-state").textContent = step
    ? `step ${step} of ${steps}, loss ${curve.at(-1).loss.toFixed(2)}, ${seconds} s`
    : `${now.status.replace("_", " ")}, ${seconds} s`;
}

async function end(over) {
  // The examples are still in the page; the server needs them no more.
  call("DELETE", `/v1/files/${over.training_file}`).catch(() => {});
  if (over.status !== "succeeded") {
    const reason = over.error?.message ? `: ${over.error.message}` : "";
    byId("training-state").textContent = over.status;
    const happened = over.status === "failed" ? "failed" : "was cancelled";
    throw new Error(`The training ${happened}${reason}.`);
  }
  await loadModels();
  choose(over.fine_tuned_model);
  byId("training-state").textContent += ", done";
  tell(`${shortName(over.fine_tuned_model)} is ready. Talk to it.`);
  const isWriting = document.activeElement.matches("input, textarea");
  if (isWriting) return; // the next examples, or a message
  goTo("chat");
  byId("prompt").focus();
}

"""What is assumed of machines. Another machine is another `Hardware`."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """A GPU and what surrounds it.

    Attributes:
        memory: of the GPU, bytes.
        flops: of dense bfloat16 matrix products, per second.
        bandwidth: of its memory, bytes per second.
        link: between GPUs, bytes per second in one direction.
        host: from the memory of the host, bytes per second.
        disk: from a local solid-state disk, bytes per second.
        used_flops: the share of `flops` that a training step or a long prompt gets.
        used_bandwidth: the share of `bandwidth` that a decoding step gets.
        used_memory: the share of `memory` that is planned with; the rest is for workspaces and
            fragments.
    """

    name: str = "H100 SXM, 80 GB"
    # NVIDIA's data sheet of the H100 SXM: 80 GB, 989 TFLOP/s without sparsity, 3.35 TB/s, NVLink
    # 900 GB/s in both directions together.
    memory: float = 80e9
    flops: float = 989e12
    bandwidth: float = 3.35e12
    link: float = 450e9
    host: float = 25e9  # PCIe 4.0, 16 lanes: 31.5 GB/s less what packets cost
    disk: float = 5e9  # PCIe 4.0, 4 lanes: 7.9 GB/s; what is common for reads
    # Assumptions without a source: round figures for code that is not tuned by hand.
    used_flops: float = 0.4
    used_bandwidth: float = 0.6
    used_memory: float = 0.9


H100 = Hardware()

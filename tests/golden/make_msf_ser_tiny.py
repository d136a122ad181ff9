"""Writes tests/golden/msf_ser_tiny: a tiny model, inputs, and what it says about them. Run it only when the equations change."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from msfser_cli.model import weights
from msfser_cli.model.config import MsfSerConfig
from msfser_cli.model.msf_ser import MsfSer

FOLDER = Path(__file__).parent / "msf_ser_tiny"


def main() -> None:
    """Draw weights and inputs, run the model, store all three."""
    torch.manual_seed(5749)
    model = MsfSer(MsfSerConfig(acoustic_dim=5, text_dim=4, hidden_dim=4, semantic_dim=3, expert_dim=3, low=1.0, high=7.0)).eval()
    for name, tensor in model.state_dict().items():
        tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("_std") else torch.randn_like(tensor))
    acoustic, texts = torch.randn(6, 5), torch.randn(6, 3, 4)
    present = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]).bool()
    with torch.no_grad():
        output = model(acoustic, texts, present)
    weights.save(FOLDER, model)
    record = {
        "acoustic": acoustic, "texts": texts, "present": present, "scores": output.scores, "gates": output.gates,
        "routes": output.routes, "balance": output.balance,
    }
    text = ",\n".join(f'  "{name}": {json.dumps(tensor.tolist())}' for name, tensor in record.items())
    (FOLDER / "record.json").write_text("{\n" + text + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Models for the doubles of the back ends, and the options that choose them."""

from __future__ import annotations

from pathlib import Path


def make_models(folder: Path) -> None:
    """Models for the doubles, that hold nothing, and a head that scores their vectors."""
    import torch

    from msfser_cli.model import weights
    from msfser_cli.model.config import MsfSerConfig
    from msfser_cli.model.msf_ser import MsfSer

    for name in ("speech", "text"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = MsfSerConfig(acoustic_dim=2, text_dim=2, hidden_dim=4, semantic_dim=3, expert_dim=3, low=1.0, high=7.0)
        weights.save(folder / "head", MsfSer(config))


def options_of(stage: str, models: Path | str = "models") -> list[str]:
    """The options of a command that choose the doubles, and what is quick; of "chain", those of `predict` over recordings."""
    speech, text = f"{models}/speech", f"{models}/text"
    options = {
        "transcribe": ["--transcriber", "double", "--model", speech],
        "embed": ["--acoustic-encoder", "double", "--acoustic-model", speech, "--text-encoder", "double", "--text-model", text],
        "predict": ["--head", f"{models}/head"],
    }
    return [option for several in options.values() for option in several] if stage == "chain" else options.get(stage, [])

"""Score a method on one frozen bank of test masks: `python -m src.evaluate ckpt=outputs/.../best.ckpt data=places`."""

from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from src.common.command import command
from src.common.schemas import EvaluateOptions
from src.evaluation.formats import text_table
from src.evaluation.leaderboard import merge_records, print_leaderboard
from src.evaluation.scoring import evaluate, evaluation_table
from src.rendering.text_table import write_texts


@command("evaluate", EvaluateOptions)
def main(cfg: DictConfig) -> None:
    """Score, print the table, and write it next to the records; or merge records that exist."""
    if cfg.records is not None:
        print_leaderboard(cfg, merge_records(cfg))
        return
    path = evaluate(cfg)
    if rank_zero_only.rank != 0:  # type: ignore[attr-defined]  # Lightning sets it
        return
    table = evaluation_table(cfg, path)
    write_texts(path.parent, {"table.md": text_table(table).to_markdown()})
    Console().print(text_table(table, intervals=False).to_console())
    print(f"records: {path}")


if __name__ == "__main__":
    main()

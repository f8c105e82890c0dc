"""Score methods on one frozen bank of test masks: `python -m src.evaluate ckpt=outputs/.../best.ckpt data=places`."""

from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import DictConfig
from rich.console import Console

from src.common.command import command
from src.common.schemas import EvaluateOptions
from src.evaluation.comparison import headline_scores, write_comparison
from src.evaluation.exported_inputs import export_inputs
from src.evaluation.formats import text_table
from src.evaluation.leaderboard import merge_records, print_leaderboard
from src.evaluation.methods import compares_methods, evaluate_methods
from src.evaluation.scoring import evaluate, evaluation_table
from src.rendering.text_table import write_texts


@command("evaluate", EvaluateOptions)
def main(cfg: DictConfig) -> None:
    """Score one method or several, merge records that exist, or export the inputs of the test."""
    if cfg.records is not None:
        print_leaderboard(cfg, merge_records(cfg))
    elif cfg.export_inputs is not None:
        typed = (one for one in HydraConfig.get().overrides.task if not one.startswith("export_inputs="))
        print(f"wrote the inputs to {export_inputs(cfg, list(typed))}")
    elif compares_methods(cfg):
        _compare(cfg)
    else:
        _evaluate_one(cfg)


def _evaluate_one(cfg: DictConfig) -> None:
    """Score, print the table, and write it next to the records."""
    path = evaluate(cfg)
    if not _is_first_process():
        return
    table = evaluation_table(cfg, path)
    write_texts(path.parent, {"table.md": text_table(table).to_markdown()})
    Console().print(text_table(table, intervals=False).to_console())
    print(f"records: {path}")


def _compare(cfg: DictConfig) -> None:
    """Score several methods, print their table with ranks, and write a report."""
    scored = evaluate_methods(cfg)
    if _is_first_process():
        board = write_comparison(cfg, scored)
        Console().print(board.text(intervals=False, only=headline_scores(board)).to_console())
        print(f"all scores, tests and images: {cfg.output_dir}/report.html, table.md and images.png")


def _is_first_process() -> bool:
    return rank_zero_only.rank == 0  # type: ignore[attr-defined, no-any-return]  # Lightning sets it


if __name__ == "__main__":
    main()

"""Run a user study in which people pick the most plausible result: `python -m src.user_study images=study/`."""

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from src.common.command import command
from src.common.errors import InputError
from src.common.options import check_options
from src.common.resolvers import FOLDER
from src.common.schemas import UserStudyOptions
from src.evaluation.record_files import read_listed
from src.reproduction.papers import PaperTable, read_paper_file
from src.voting.agreement import agreement_with_scores
from src.voting.questions import read_study
from src.voting.report import agreement_table, text_table, write_vote_report
from src.voting.shares import VoteTable, match_methods, vote_table
from src.voting.votes import Votes


def user_study(cfg: DictConfig) -> tuple[VoteTable, list[Path]]:
    """Serve the study until Ctrl-C, if the composed conf/user_study.yaml has images, and write the report.

    Returns:
        The result, and the files it is written to.
    Raises:
        InputError: an option, file or image is invalid, the votes are of another study, or there are none.
    """
    check_options(cfg, UserStudyOptions)
    path = Path(cfg.results).expanduser()
    if path.suffix in ("", ".md", ".csv", ".html"):
        raise InputError(
            f"results={path} must have a suffix such as .db; the report is written to .md, .csv and .html next to it"
        )
    paper = None if cfg.table is None else read_paper_file(FOLDER / f"{cfg.table}.yaml")
    if not isinstance(paper, PaperTable | None):
        raise InputError(f"table={cfg.table} is a figure: pass a table of votes, such as table=lbam/user_study")
    records = None if cfg.records is None else read_listed(cfg.records)  # raises before the study starts
    if cfg.images is not None:
        _ask(cfg, path, paper)
    votes = Votes(path)
    cast = votes.table()
    table = vote_table(cast, votes.facts, paper)
    if records is not None:
        table = replace(table, agreement=agreement_with_scores(cast, votes.facts, records))
    return table, write_vote_report(table, path)


def _ask(cfg: DictConfig, path: Path, paper: PaperTable | None) -> None:
    study = read_study(Path(cfg.images).expanduser(), cfg.questions, cfg.seed)
    if paper is not None:
        match_methods(paper, study.methods)  # raises before the study starts if no name matches
    votes = Votes.open_or_create(path, study.facts)
    try:
        from src.voting.page import serve_study  # Gradio is an extra that reports do not need
    except ModuleNotFoundError as error:
        raise InputError(f"Gradio is not installed ({error}): pip install -c constraints.txt -e '.[app]'") from error
    print(f"{len(study.questions)} questions, {', '.join(study.methods)}; votes are stored in {path}")
    serve_study(study, votes, cfg)


@command("user_study", UserStudyOptions)
def main(cfg: DictConfig) -> None:
    """Run the study, print its result, and name the files of the report."""
    table, written = user_study(cfg)
    console = Console()
    console.print(text_table(table, narrow=True).to_console())
    if table.agreement is not None:
        console.print(agreement_table(table.agreement, notes=False).to_console())
    console.print(
        f"wrote {', '.join(str(path) for path in written)}, with notes on their interpretation", soft_wrap=True
    )


if __name__ == "__main__":
    main()

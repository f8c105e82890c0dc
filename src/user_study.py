"""Let people pick the most plausible result, and count their votes: `python -m src.user_study pictures=study/`."""

from pathlib import Path

import hydra
from omegaconf import DictConfig
from rich.console import Console

from src.common.errors import InputError, report_input_errors
from src.common.options import check_options
from src.common.resolvers import FOLDER
from src.common.schemas import UserStudyOptions
from src.reproduction.papers import PaperTable, read_paper_file
from src.voting.questions import read_study
from src.voting.report import console_table, write_vote_report
from src.voting.shares import VoteTable, methods_in, vote_table
from src.voting.votes import Votes


def user_study(cfg: DictConfig) -> tuple[VoteTable, list[Path]]:
    """Ask until Ctrl-C, if there are pictures; then report, as conf/user_study.yaml composes.

    Returns:
        The result, and the files it is written to.
    Raises:
        InputError: a key, a file or a picture is unfit, the votes are another study's, or nobody has voted.
    """
    check_options(cfg, UserStudyOptions)
    path = Path(cfg.results).expanduser()
    if path.suffix in ("", ".md", ".csv", ".html"):
        raise InputError(f"results={path}: name a file as votes.db, whose report is votes.md, votes.csv and votes.html")
    paper = None if cfg.table is None else _paper_table(cfg.table)
    if cfg.pictures is not None:
        _ask(cfg, path, paper)
    votes = Votes(path)
    table = vote_table(votes.table(), votes.facts, paper)
    return table, write_vote_report(table, path)


def _paper_table(name: str) -> PaperTable:
    found = read_paper_file(FOLDER / f"{name}.yaml")
    if not isinstance(found, PaperTable):
        raise InputError(f"table={name} is a figure: name a study, as lbam/user_study")
    return found


def _ask(cfg: DictConfig, path: Path, paper: PaperTable | None) -> None:
    study = read_study(Path(cfg.pictures).expanduser(), cfg.questions, cfg.seed)
    if paper is not None:
        methods_in(paper, study.methods)  # a name that fits no row is found before anybody is asked
    votes = Votes.of(path, study.facts)
    try:
        from src.voting.page import serve, study_page  # Gradio is an extra, and reports need none
    except ModuleNotFoundError as error:
        raise InputError(f"the page needs Gradio ({error}): pip install -c constraints.txt -e '.[app]'") from error
    print(f"{len(study.questions)} questions, {', '.join(study.methods)}; votes are kept in {path}")
    serve(study_page(study, votes, cfg.shared_device), cfg.host, cfg.port, cfg.share)


@hydra.main(version_base="1.3", config_path="../conf", config_name="user_study")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Ask, and say what was answered."""
    table, written = user_study(cfg)
    console = Console()
    console.print(console_table(table).to_console())
    console.print(f"wrote {', '.join(str(path) for path in written)}, with notes on how to read it", soft_wrap=True)


if __name__ == "__main__":
    main()

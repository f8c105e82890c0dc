"""Fill built-in images with shipped networks and other methods, train a small network, write a report: `make demo`."""

from omegaconf import DictConfig

from src.common.command import command
from src.common.schemas import DemoOptions
from src.evaluation.demo import run_demo


@command("demo", DemoOptions)
def main(cfg: DictConfig) -> None:
    """Run the demo and print where its report is."""
    print(f"report: {run_demo(cfg).resolve()}")


if __name__ == "__main__":
    main()

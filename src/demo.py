"""Fill built-in images with shipped networks and other methods, train a small network, write a report: `make demo`."""

import hydra
from omegaconf import DictConfig

from src.common.errors import report_input_errors
from src.evaluation.demo import run_demo


@hydra.main(version_base="1.3", config_path="../conf", config_name="demo")
@report_input_errors
def main(cfg: DictConfig) -> None:
    """Run the demo and print where its report is."""
    print(f"report: {run_demo(cfg).resolve()}")


if __name__ == "__main__":
    main()

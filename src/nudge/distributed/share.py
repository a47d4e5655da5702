"""The division of an update among processes. Without torch, since `nudge launch` checks it before it writes a job."""

from nudge.config import Config
from nudge.errors import ConfigError


def check_share(config: Config, n_processes: int) -> None:
    """Check that all processes get equally many windows and passes per update. Raises: ConfigError."""
    n_windows, wanted = config.train.batch_tokens // config.model.block_size, config.train.micro_batch or 1
    if n_windows % (n_processes * wanted):
        fitting = [str(n) for n in range(1, n_windows + 1) if n_windows % (n * wanted) == 0]
        raise ConfigError(
            "uneven_share", size=n_processes, n_windows=n_windows, micro_batch=wanted, fitting=", ".join(fitting[:8])
        )

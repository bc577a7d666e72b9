"""All systems by name; ``model.system`` chooses one."""

from gradrev_jax.systems import gamma, gradrev
from gradrev_jax.systems.amnet import system as amnet
from gradrev_jax.systems.fsn import system as fsn
from gradrev_jax.systems.system import System

# To add one, see docs/extending.md.
SYSTEMS: dict[str, System] = {
    "gradrev": gradrev.SYSTEM,
    "amnet": amnet.SYSTEM,
    "fsn": fsn.SYSTEM,
    "gamma": gamma.SYSTEM,
}

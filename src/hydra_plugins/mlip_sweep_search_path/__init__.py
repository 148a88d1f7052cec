"""Lets Hydra find the sweeps that ship with mlip-sweep: `mlip-sweep --config-name=quickstart --multirun`."""

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin

from mlip_sweep.config import config_folder


class SweepsSearchPath(SearchPathPlugin):
    """Adds the folder `sweeps` behind mlip-sweep's own configs; other programs of the environment do not get it."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append it."""
        places = {str(place.path).removeprefix("file://") for place in search_path.get_path()}
        if str(config_folder("conf")) in places:
            search_path.append("mlip-sweep", f"file://{config_folder('sweeps')}")

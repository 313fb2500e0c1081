"""A Spark of the tests' own: two worker processes on this machine, started once, gone with the tests."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

# Two workers of one core and 2 GB each, in processes of their own.
CLUSTER = "local-cluster[2,1,2048]"
# Small data: compiling the code of a query takes longer than running it.
DEFAULTS = """
spark.driver.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.executor.extraJavaOptions -XX:TieredStopAtLevel=1 -XX:+UseSerialGC
spark.sql.codegen.wholeStage false
spark.sql.codegen.factoryMode NO_CODEGEN
spark.sql.shuffle.partitions 2
spark.default.parallelism 2
"""


def find_missing() -> str:
    """What Spark needs that is not here; empty: nothing."""
    if find_spec("pyspark") is None:
        return "pyspark"
    return "" if shutil.which("java") or os.environ.get("JAVA_HOME") else "Java 17"


def prepare_environment(folder: Path) -> dict[str, str]:
    """The variables under which a Spark of the tests' own starts; its settings are written into a folder."""
    (folder / "conf").mkdir()
    (folder / "conf" / "spark-defaults.conf").write_text(DEFAULTS)
    return {
        "SPARK_HOME": str(_link_home(folder / "home")),
        "SPARK_CONF_DIR": str(folder / "conf"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        # Without it the workers look for a built source tree.
        "SPARK_SCALA_VERSION": "2.13",
    }


def _link_home(home: Path) -> Path:
    """PySpark's folder under another name: workers write into a folder beside its programs."""
    found = find_spec("pyspark")
    assert found is not None and found.origin is not None
    home.mkdir()
    for part in Path(found.origin).parent.iterdir():
        (home / part.name).symlink_to(part)
    return home

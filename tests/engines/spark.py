"""A Spark of the tests' own: two worker processes on this machine, started once, gone with the tests."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

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
LOGS = """
rootLogger.level = error
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n
"""


def find_missing() -> str:
    """What Spark needs that is not here; empty: nothing."""
    if find_spec("pyspark") is None:
        return "pyspark"
    return "" if shutil.which("java") or os.environ.get("JAVA_HOME") else "Java 17"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Spark that runs."""
    if missing := find_missing():
        pytest.skip(f"needs {missing}: `.ci/install-engines` installs it")
    from opslib.data.engines.spark import connect_spark

    folder = tmp_path_factory.mktemp("spark")
    (folder / "conf").mkdir()
    (folder / "conf" / "spark-defaults.conf").write_text(DEFAULTS)
    (folder / "conf" / "log4j2.properties").write_text(LOGS)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SPARK_HOME", str(_link_home(folder / "home")))
        environment.setenv("SPARK_CONF_DIR", str(folder / "conf"))
        environment.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        # Without it the workers look for a built source tree.
        environment.setenv("SPARK_SCALA_VERSION", "2.13")
        connection = connect_spark(CLUSTER)
        yield CLUSTER
        connection._session.sparkContext.stop()


def _link_home(home: Path) -> Path:
    """PySpark's folder under another name: workers write into a folder beside its programs."""
    found = find_spec("pyspark")
    assert found is not None and found.origin is not None
    home.mkdir()
    for part in Path(found.origin).parent.iterdir():
        (home / part.name).symlink_to(part)
    return home

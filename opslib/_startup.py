"""The one place that trims start-up time, imported first by `opslib`.

`jsonschema` (under Altair, nbformat and papermill) imports `rfc3987_syntax` if it is installed (JupyterLab installs
it), which builds Lark grammars for two CPU-seconds in every process. It only serves the formats `iri` and
`iri-reference`, which nothing here validates. Marking the module as absent makes jsonschema skip those two formats.
`make bench` prints what this is worth.
"""

import sys

sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

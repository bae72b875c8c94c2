"""How to do it again: the command, the configuration, the versions."""

import json
import shlex

from markupsafe import Markup

from jaxnas.report.model import ReportData
from jaxnas.report.section import Section, fill


def _render(data: ReportData) -> Markup | None:
    result = data.result
    command = result.get("command", "")
    config = result.get("config")
    facts = {key: result[key] for key in ("device", "seed") if key in result}
    facts |= result.get("versions", {})
    if not (command or config or facts):
        return None
    return fill(
        "config.html",
        command=bool(command),
        words=command.split() if isinstance(command, str) else map(shlex.quote, map(str, command)),
        config=_yaml(config) if config else "",
        facts=facts,
    )


def _yaml(config: object) -> str:
    import yaml

    if isinstance(config, str):
        return config
    plain = json.loads(json.dumps(config, default=str))  # tuples and paths as result.json has them
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=1000)


SECTION = Section("config", "Configuration", _render)

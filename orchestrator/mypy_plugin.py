"""A plugin for mypy, which does not see what a decorator makes of a class.

It gives the classes under `@remote` their `remote` and `options`. In pyproject.toml:

    [tool.mypy]
    plugins = ["orchestrator.mypy_plugin"]
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.nodes import ARG_STAR, ARG_STAR2, Argument, Var
from mypy.plugin import ClassDefContext, Plugin
from mypy.plugins.common import add_method_to_class
from mypy.types import AnyType, TypeOfAny

#: the method of a class, and what it returns
_ADDED = {
    "remote": "orchestrator.api.actor_handle.ActorHandle",
    "options": "orchestrator.api.actor_class.ActorOptions",
}


class _RemotePlugin(Plugin):
    def get_class_decorator_hook(self, fullname: str) -> Callable[[ClassDefContext], None] | None:
        return _add_entrances if fullname == "orchestrator.api.remote.remote" else None


def _add_entrances(context: ClassDefContext) -> None:
    for name, result in _ADDED.items():
        anything = AnyType(TypeOfAny.explicit)
        add_method_to_class(
            context.api,
            context.cls,
            name,
            [
                Argument(Var("args", anything), anything, None, ARG_STAR),
                Argument(Var("kwargs", anything), anything, None, ARG_STAR2),
            ],
            context.api.named_type_or_none(result) or anything,
            is_classmethod=True,
        )


def plugin(version: str) -> type[Plugin]:
    """Return the plugin's class; mypy looks for this function."""
    return _RemotePlugin

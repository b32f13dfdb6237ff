"""`scope import`: convert a GGUF file to a Hugging Face directory."""

from __future__ import annotations

import argparse

from services.cli.output import say
from services.cli.parser import add_examples, path_argument


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the options of `scope import`."""
    parser.add_argument("file", type=path_argument, metavar="FILE.gguf", help="model to import")
    parser.add_argument(
        "--out", type=path_argument, required=True, metavar="DIR", help="new or empty directory"
    )
    parser.add_argument("--replace", action="store_true", help="replace a model in DIR")
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16"),
        default="float32",
        help="precision of the weights (default: float32)",
    )
    add_examples(
        parser,
        "scope import SmolLM2-135M-Instruct.Q4_1.gguf --out models/smollm2 --replace",
        "scope import model.gguf --out models/model --dtype bfloat16",
    )
    parser.set_defaults(command=_import)


def _import(options: argparse.Namespace) -> int:
    from trainer.starting_model.gguf import import_gguf

    out = options.out.absolute()
    found = import_gguf(options.file.absolute(), out, options.dtype, replace=options.replace)
    chat = "with" if found.chat else "without"
    say(f"{found.architecture}, {found.parameters:,} parameters, {chat} a chat template: {out}")
    say(f"train it with --set model.path={out}")
    return 0

"""`scope completion`: scripts for shells, which ask this program for the completions of a command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence

from services.cli.connect import run_ids
from services.cli.output import say, say_lines
from services.cli.parser import add_examples

# Without a completion of ours each shell falls back to file names. The program is the one on the command line, so that
# `.venv/bin/scope` works without a change of PATH.
SCRIPTS = {
    "bash": r"""
_scope() {
    local IFS=$'\n'
    COMPREPLY=($("$1" completion bash "${COMP_WORDS[*]:0:COMP_CWORD+1}" 2>/dev/null))
}
complete -o bashdefault -o default -F _scope scope
""",
    "zsh": r"""
#compdef scope
_scope() {
    local -a found
    found=("${(@f)$("${words[1]}" completion zsh "${(F)words[1,CURRENT]}" 2>/dev/null)}")
    if [[ -n "$found" ]]; then compadd -a found; else _files; fi
}
compdef _scope scope
""",
    "fish": r"""
function __scope_complete
    set -l words (commandline -opc)
    set -l line $words[1]
    for word in $words[2..-1] (commandline -ct)
        set line "$line"\n"$word"
    end
    set -l found ($words[1] completion fish "$line" 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c scope -f -a '(__scope_complete)'
""",
}


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `scope completion`."""
    parser.add_argument("shell", choices=tuple(SCRIPTS), help="the shell that the script is for")
    parser.add_argument(
        "line",
        nargs="?",
        metavar="LINE",
        help="words of a command line, one a line: print the completions of the last one instead of the script",
    )
    add_examples(
        parser,
        "source <(scope completion bash)",
        "source <(scope completion zsh)",
        "source (scope completion fish | psub)",
    )
    parser.set_defaults(command=_completion)


def _completion(options: argparse.Namespace) -> int:
    if options.line is None:
        say_lines(SCRIPTS[options.shell].strip("\n"))
        return 0
    for completion in completions(options.line.split("\n")):
        say(completion)
    return 0


def completions(words: Sequence[str]) -> list[str]:
    """The completions of the last word of a command line that begins with `scope`. Empty for a file or free text."""
    *before, word = words[1:] or [""]
    return sorted({name for name in _candidates(before, word) if name.startswith(word)})


def _candidates(before: Sequence[str], word: str) -> Iterator[str]:
    from services.cli.main import make_parser

    parser = make_parser(before[:1])
    positionals_given = 0
    option: argparse.Action | None = None
    for given in before:
        if given == "=":
            # bash divides `--option=value` into three words.
            continue
        if option is not None:
            option = None
        elif given.startswith("-"):
            named = [action for action in parser._actions if given in action.option_strings]
            option = next((action for action in named if action.nargs != 0), None)
        elif given in (commands := _commands(parser)):
            parser = commands[given]
        else:
            positionals_given += 1
    if option is not None:
        yield from _values(option)
    elif word.startswith("-"):
        yield from (name for action in parser._actions for name in action.option_strings)
    else:
        positionals = [action for action in parser._actions if not action.option_strings]
        for action in positionals[positionals_given : positionals_given + 1]:
            yield from _values(action)


def _commands(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return groups[0].choices if groups else {}


def _values(action: argparse.Action) -> Iterable[str]:
    if action.metavar in ("RUN", "MODEL"):
        return run_ids()
    return map(str, action.choices or ())

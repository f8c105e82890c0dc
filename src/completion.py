"""Completion of the commands' groups, keys and values by a shell's Tab: `eval "$(python -m src.completion bash)"`.

Hydra's own (`-sc install=bash`) knows `python file.py` and installed programs, but not `python -m src.train`; and each
Tab would wait for the imports of the command itself. What is offered is Hydra's, from the configurations alone.
"""

import re
import sys
from pathlib import Path

from hydra import initialize_config_dir

# Hydra has no public way to ask for completions but its own scripts'.
from hydra._internal.core_plugins.bash_completion import BashCompletion
from hydra.core.global_hydra import GlobalHydra

import src.common.resolvers  # rows of the papers' tables as experiments=
import src.common.run_dir  # noqa: F401  # ${run_folder:}

_PACKAGE = Path(__file__).parent
_MAIN = re.compile(r'^@hydra\.main\(.*config_path="([^"]+)", config_name="([^"]+)"\)', re.MULTILINE)

SCRIPTS = {
    "bash": r"""
_inpainting_suite() {
    local line=${COMP_LINE:0:COMP_POINT} word=${COMP_WORDS[COMP_CWORD]} IFS=$'\n'
    local typed=${line##*[[:space:]]} words offered
    IFS=$' \t' read -r -a words <<< "$line"
    [[ -f src/completion.py && ${words[1]} == -m && ${words[2]} == src* ]] || return
    offered=$("${words[0]/#\~/$HOME}" -m src.completion query "$line" 2> /dev/null) || return
    [[ $word == [=:@] ]] && word= # bash takes these for words, and puts its choice behind them
    COMPREPLY=($(compgen -W "$offered" -- "$typed"))
    COMPREPLY=("${COMPREPLY[@]#"${typed%"$word"}"}")
}
complete -o nospace -o default -F _inpainting_suite python python3
""".lstrip(),
    "zsh": r"""
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
_inpainting_suite() {
    [[ -f src/completion.py && $words[2] == -m && $words[3] == src* ]] || { _python; return; }
    compadd -S '' -- ${(f)"$(${~words[1]} -m src.completion query $LBUFFER 2> /dev/null)"} || _files
}
compdef _inpainting_suite python python3
""".lstrip(),
    "fish": r"""
function __inpainting_suite
    set -l line (commandline -cp)
    test -f src/completion.py; and string match -qr '^\s*\S*python[0-9.]*\s+-m\s+src' -- $line; or return
    set -l python (commandline -cpo)[1]
    eval $python -m src.completion query (string escape -- $line) 2> /dev/null
end
for python in python python3
    complete -c $python -n "string match -qr -- '-m\s+src' (commandline -cp)" -f -a "(__inpainting_suite)"
end
""".lstrip(),
}
"""What a shell is to run, by its name."""


def commands() -> dict[str, tuple[Path, str]]:
    """The entry points, with the folder and the name of their configurations, without importing them."""
    found = {path.stem: _MAIN.search(path.read_text(encoding="utf-8")) for path in sorted(_PACKAGE.glob("*.py"))}
    return {name: ((_PACKAGE / main[1]).resolve(), main[2]) for name, main in found.items() if main is not None}


def offers(line: str) -> list[str]:
    """What the last word of a line `<python> -m src.<command> ...` may become, or the next one, behind a blank."""
    words = line.split(maxsplit=3)
    name = words[2].removeprefix("src").removeprefix(".")
    if len(words) == 3 and not line[-1].isspace():
        return [f"src.{command}" for command in commands() if command.startswith(name)]
    if name not in commands():
        return []
    folder, config = commands()[name]
    with initialize_config_dir(str(folder), version_base="1.3"):
        return BashCompletion(GlobalHydra.instance().config_loader())._query(config, line.split(words[2], 1)[1])


def main() -> None:
    """Print a shell's script, or, for such a script, what may follow on its line, a word a line."""
    if sys.argv[1:2] == ["query"] and len(sys.argv) == 3:
        print("\n".join(offers(sys.argv[2])))
    elif len(sys.argv) == 2 and sys.argv[1] in SCRIPTS:
        print(SCRIPTS[sys.argv[1]], end="")
    else:
        sys.exit(
            'error: bash, zsh: eval "$(python -m src.completion bash)"; fish: python -m src.completion fish | source'
        )


if __name__ == "__main__":
    main()

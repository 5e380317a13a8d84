# Prints what zsh offers to complete the last of some words, one a line.
#
#   zsh -f tests/examples/complete.zsh FOLDER WORDS...      FOLDER holds the completions of the programs
zmodload zsh/zpty || exit 77
folder=$1
shift
zpty shell zsh -f -i
# The shell on the pseudo-terminal completes at a tab and runs nothing. Its compadd prints the matches between marks.
setup='PROMPT=; fpath=('${(q)folder}' $fpath); autoload -Uz compinit; compinit -u -D
bindkey "^M" undefined; bindkey "^J" undefined; bindkey "^I" complete-word
zstyle ":completion:*" insert-tab false
begin() { print "<begin>" }; finish() { print "<finish>"; exit }
compprefuncs=(begin); comppostfuncs=(finish)
compadd() {
  [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]] && { builtin compadd "$@"; return }
  local -a found
  builtin compadd -O found "$@"
  print -l -- "match "${^found}
  builtin compadd "$@"
}
print ready'
print -r -- "$setup" > $TMPPREFIX.$$
zpty -w shell "source ${(q)TMPPREFIX}.$$"
zpty -m -r shell line '*ready*'
rm $TMPPREFIX.$$
zpty -w -n shell "${(j: :)${(@q)@}}"$'\t'
while zpty -r shell line; do
  line=${${line%%[[:space:]]#}//$'\r'/}
  [[ $line == *'<finish>'* ]] && break
  [[ $line == *'match '?* ]] && print -r -- ${line##*match }
done
zpty -d shell

#!/usr/bin/env bash
# Fetches the photographs that the small editor is trained on into one folder, without installing anything.
#
#   scripts/photographs.sh DEST [FOLDER...]
#
# Sources: Debian's wallpaper packages (apt-get download) and the sample pictures inside two PyPI wheels. Drawings,
# gradients and renderings in those packages are left out: the list below was made by looking at every picture.
# Each FOLDER may hold photographs of your own (.jpg, .jpeg, .png, .webp); they are copied unchanged.
set -euo pipefail

if [[ $# -lt 1 ]]; then
  echo "usage: $0 DEST [FOLDER...]" >&2
  exit 2
fi
dest=$1
shift
mkdir -p "$dest"
dest=$(cd "$dest" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

debian=(
  lomiri-wallpapers-16.04:usr/share/backgrounds:Bridge_by_Sander_Klootwijk.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:Dragonfly_by_Bolly.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:Picture_0B_by_freespace.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:Picture_1A_by_freespace.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:Wine_by_Jakkub_Mede.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:aitzgorri_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:free_by_Peter_Nerlich.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:friends_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:greentock_by_Peter_Nerlich.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:life_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:picosdeeuropa_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:seeding_by_Clements_Engelhardt.jpg
  lomiri-wallpapers-16.04:usr/share/backgrounds:sunset_by_Aitzol_Berasategi.jpg
  lomiri-wallpapers-20.04:usr/share/backgrounds:Kleiber_by_Lukas_Baubkus.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:Aqua.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:Blinds.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:Dune.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:FreshFlower.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:Garden.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:GreenMeadow.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:LadyBird.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:RainDrops.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:Storm.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:TwoWings.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:Wood.jpg
  mate-backgrounds:usr/share/backgrounds/mate/nature:YellowFlower.jpg
)
for name in BytheWater ColdRipple ColorfulCups DarkestHour EveningGlow FallenLeaf Grey Kite OneStandsOut Path summer_1am
do
  debian+=("plasma-workspace-wallpapers:usr/share/wallpapers/$name/contents/images:2560x1600.jpg:$name.jpg")
done
wheels=(
  scikit-image:skimage/data:astronaut.png
  scikit-image:skimage/data:camera.png
  scikit-image:skimage/data:chelsea.png
  scikit-image:skimage/data:coffee.png
  scikit-image:skimage/data:motorcycle_left.png
  scikit-image:skimage/data:rocket.jpg
  scikit-learn:sklearn/datasets/images:china.jpg
  scikit-learn:sklearn/datasets/images:flower.jpg
)

# Prints the name under which an entry is stored: "<package>_<file>".
stored_name() {
  local IFS=:
  read -r package folder file target <<<"$1"
  echo "${package}_${target:-$file}"
}

fetch_debian() {
  (cd "$work" && apt-get download -q "$1" >/dev/null)
  dpkg-deb -x "$work/$1"_*.deb "$work/$1"
}

fetch_wheel() {
  python3 -m pip download -q --no-deps --only-binary :all: -d "$work/wheels" "$1"
  python3 -m zipfile -e "$work"/wheels/"${1//-/_}"-*.whl "$work/$1"
}

take() {
  local fetch=$1 entry package folder file target name
  shift
  for entry in "$@"; do
    IFS=: read -r package folder file target <<<"$entry"
    name=$(stored_name "$entry")
    [[ -s "$dest/$name" ]] && continue
    [[ -d "$work/$package" ]] || "$fetch" "$package"
    cp "$work/$package/$folder/$file" "$dest/$name.part"
    mv "$dest/$name.part" "$dest/$name"
  done
}

take fetch_debian "${debian[@]}"
take fetch_wheel "${wheels[@]}"

for extra in "$@"; do
  while IFS= read -r -d '' file; do
    cp -n "$file" "$dest/"
  done < <(find "$extra" -maxdepth 1 -type f \( -iname '*.jpg' -o -iname '*.jpeg' -o -iname '*.png' -o -iname '*.webp' \) -print0)
done

echo "$(find "$dest" -maxdepth 1 -type f | wc -l) photographs in $dest"

#!/usr/bin/env bash
# Fetch what MAVL's authors released: label files and checkpoints (Google Drive), books and split files (GitHub).
#
#   ./download.sh [--only data|checkpoints|books|splits] [--out DIR]
#
#   data         DIR/data_file/        label files of MIMIC-CXR, over 6 GB
#   checkpoints  DIR/checkpoints/      checkpoint_full_40.pth, checkpoint_full_46.pth, checkpoint_short_37.pth
#   books        DIR/released_books/   the released descriptions and aspects
#   splits       DIR/data/<dataset>/   the released lists of images (no images: docs/data.md)
#
# Run it again after a broken connection: what is complete is kept, what is not goes on where it was. A file appears
# under its name only when it is whole. Files of GitHub are checked against the checksums that GitHub lists. For those
# on Drive none are published: the first download is noted in DIR/SHA256SUMS, and later runs check against that. Names
# of a listing that lead out of DIR are left out, and links in DIR are not followed.
# It needs curl and python3, and for Drive gdown (pip install 'gdown>=6.1').
set -euo pipefail
PATH=$PATH:$(cd "$(dirname "$0")" && pwd)/.venv/bin # where make has put gdown

REPOSITORY=HieuPhan33/CVPR2024_MAVL
DRIVE_FOLDER=${MAVL_DRIVE_FOLDER:-1EN-oHVk513qmoehWypkrJ2Ero5PoUmId}
TREE_URL=${MAVL_TREE_URL:-https://api.github.com/repos/$REPOSITORY/git/trees/main?recursive=1}
RAW_URL=${MAVL_RAW_URL:-https://raw.githubusercontent.com/$REPOSITORY/main}
LFS_URL=${MAVL_LFS_URL:-https://media.githubusercontent.com/media/$REPOSITORY/main}
TRIES=${MAVL_TRIES:-5}
PAUSE=${MAVL_PAUSE:-2} # seconds before the second try; doubled before each further one

BOOKS='^(Pretrain/concept_gen/gpt4_mimic(_covidr|_padchest_rare)?|(Pretrain/data_file|Zero-shot_classification)/'
BOOKS+='observation explanation(_padchest_rare)?)\.json$'
SPLITS='^data/.+\.(csv|txt|json)$'

usage() { sed -n '4,9s/^# \{0,1\}//p' "$0"; }
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
sha256() { if command -v sha256sum >/dev/null; then sha256sum "$1"; else shasum -a 256 "$1"; fi | cut -d ' ' -f 1; }
git_sha() { # what git calls a file: the SHA-1 of its length and content
  { printf 'blob %s\0' "$(wc -c <"$1" | tr -d ' ')" && cat "$1"; } |
    if command -v sha1sum >/dev/null; then sha1sum; else shasum; fi | cut -d ' ' -f 1
}
unlink() { [ ! -L "$1" ] || rm -f "$1"; } # what is written to a link would change its target
noted() { [ -f "$SUMS" ] && awk -v name="$1" 'substr($0, 67) == name { print $1 }' "$SUMS"; }

# again COMMAND...: up to TRIES times, with longer and longer pauses. A status of 9 is not worth another try.
again() {
  local try status pause=$PAUSE
  for ((try = 1; ; try++)); do
    status=0
    "$@" || status=$?
    if [ "$status" -eq 0 ] || [ "$status" -eq 9 ] || [ "$try" -ge "$TRIES" ]; then return "$status"; fi
    say "  try $try of $TRIES failed; next in $pause s"
    sleep "$pause"
    pause=$((pause * 2))
  done
}

# keep PART NAME: the finished file gets its name, and its checksum is noted.
keep() {
  local draft="$WORK/SHA256SUMS" folder
  folder=$(dirname "$OUT/$2")
  mkdir -p "$folder"
  case "$(cd "$folder" && pwd -P)/" in
    "$(cd "$OUT" && pwd -P)"/*) ;;
    *) die "$folder is a link out of $OUT: remove it, or give its target as --out" ;;
  esac
  rm -f "$draft"
  unlink "$SUMS"
  unlink "$OUT/$2"
  if [ -f "$SUMS" ]; then awk -v name="$2" 'substr($0, 67) != name' "$SUMS" >"$draft"; else : >"$draft"; fi
  printf '%s  %s\n' "$(sha256 "$1")" "$2" >>"$draft"
  mv "$draft" "$SUMS"
  mv "$1" "$OUT/$2"
  say "  $2"
}

# have NAME: whether it is there already, and still what was noted of it.
have() {
  [ -f "$OUT/$1" ] || return 1
  local sum
  sum=$(noted "$1" || true)
  if [ -z "$sum" ]; then
    say "  $1 is there, though not by this script: kept, unchecked"
  elif [ "$sum" = "$(sha256 "$OUT/$1")" ]; then
    say "  $1 is there, as it was downloaded"
  else
    die "$OUT/$1 is no longer what was downloaded ($SUMS): delete it to download it again, or its line if you mean it"
  fi
}

# chosen LISTING PATTERN: a line of checksum or address, tab, name for each file that fits, of GitHub's or gdown's JSON
chosen() {
  python3 -c '
import json, re, sys
listing = json.load(open(sys.argv[1], encoding="utf-8"))
for entry in listing["tree"] if isinstance(listing, dict) else listing:
    source = entry.get("sha") or entry["url"]
    name = entry["path"] if "sha" in entry else entry["path"].rpartition("/")[2]
    if entry.get("type", "blob") != "blob" or not re.search(sys.argv[2], name):
        continue
    leaves = name.startswith("/") or {"", ".", ".."} & set(name.split("/")) or "\\" in name or not name.isprintable()
    if leaves or not re.fullmatch(r"[0-9a-f]{40}|https?://[!-~]+", source):
        print(f"  left out {name!r} ({source!r}), which is no name or no address of a file", file=sys.stderr)
    else:
        print(source, name, sep="\t")' "$1" "$2"
}

# GitHub ---------------------------------------------------------------------------------------------------------------

get() { # URL PART: go on with a download; a server that cannot go on is asked for the whole. 9: it says no
  local code status=0
  unlink "$2"
  code=$(curl --fail --silent --show-error --location --connect-timeout 30 --speed-limit 1000 --speed-time 60 \
    --continue-at - --output "$2" --write-out '%{http_code}' "$1") || status=$?
  case "$status:$code" in
    22:401 | 22:403 | 22:404 | 22:429) return 9 ;;
    22:* | 33:* | 36:*) rm -f "$2" ;;
  esac
  return "$status"
}

get_checked() { # URL PART KIND SUM: KIND is git_sha or sha256
  get "$1" "$2" || return
  [ "$("$3" "$2")" = "$4" ] && return
  say "  ${2##*/}: the checksum is not $4"
  rm -f "$2"
  return 1
}

fetch() { # PATH BLOB NAME
  local part="$WORK/${3//\//_}.part" url="${1// /%20}"
  if have "$3"; then return; fi
  again get_checked "$RAW_URL/$url" "$part" git_sha "$2" || die "$1 could not be downloaded from $RAW_URL"
  if [ "$(head -c 34 "$part" | tr -d '\0')" = "version https://git-lfs.github.com" ]; then
    local sum
    sum=$(sed -n 's/^oid sha256://p' "$part")
    mv "$part" "$part.pointer" # the file itself lies in Git LFS
    again get_checked "$LFS_URL/$url" "$part" sha256 "$sum" || die "$1 could not be downloaded from Git LFS ($LFS_URL)"
    rm -f "$part.pointer"
  fi
  keep "$part" "$3"
}

from_github() { # PATTERN FOLDER: the repository's files whose path fits, into the folder ("" for their own)
  local blob path status=0
  rm -f "$WORK/tree.json"
  again get "$TREE_URL" "$WORK/tree.json" || status=$?
  [ "$status" -ne 9 ] || die "GitHub does not list $REPOSITORY ($TREE_URL); it answers 60 questions an hour: try later"
  [ "$status" -eq 0 ] || die "the list of $REPOSITORY could not be had from $TREE_URL; curl said why above"
  chosen "$WORK/tree.json" "$1" >"$WORK/files"
  [ -s "$WORK/files" ] || die "$REPOSITORY holds no file like $1 any more"
  while IFS=$'\t' read -r blob path <&3; do
    fetch "$path" "$blob" "${2:+$2/}$path"
  done 3<"$WORK/files"
}

# Google Drive ---------------------------------------------------------------------------------------------------------

REFUSED='Too many users|many accesses|quota|Cannot retrieve|Failed to retrieve'

refused() { # WHAT URL: say what to do
  die "Google Drive refuses $1. It does so for a day when a file was asked for too often, or for good when it is no
  longer shared. What is complete is kept: run this again tomorrow, or download it with a browser that is signed in
  ($2) and put it where it belongs (./download.sh --help)."
}

drive() { # gdown's arguments: 9 where Drive refuses
  local status=0
  { gdown "$@" 2>&1 >&4 | tee "$WORK/errors" >&2; } 4>&1 || status=$?
  if [ "$status" -ne 0 ] && grep -Eq "$REFUSED" "$WORK/errors"; then return 9; fi
  return "$status"
}

get_drive() { # URL PART
  unlink "$2"
  drive --continue --output "$2" "$1" || return
  if head -c 200 "$2" | LC_ALL=C grep -ai '<html\|<!doctype' >/dev/null; then # a page in place of the file
    rm -f "$2"
    return 9
  fi
}

from_drive() { # PATTERN FOLDER: the files of the shared folder whose name fits
  local url name status page="https://drive.google.com/drive/folders/$DRIVE_FOLDER"
  command -v gdown >/dev/null || die "gdown is needed for Google Drive: pip install 'gdown>=6.1'"
  gdown --help | grep -- --json >/dev/null || die "this gdown cannot list a folder: pip install -U 'gdown>=6.1'"
  status=0
  again list_drive "$page" "$WORK/drive.json" || status=$?
  [ "$status" -ne 9 ] || refused "to list the folder" "$page"
  [ "$status" -eq 0 ] || die "the folder $page could not be listed; gdown said why above"
  chosen "$WORK/drive.json" "$1" >"$WORK/files"
  [ -s "$WORK/files" ] || die "the folder $page holds no file like $1 any more"
  while IFS=$'\t' read -r url name <&3; do
    if have "$2/$name"; then continue; fi
    status=0
    again get_drive "$url" "$WORK/$name.part" || status=$?
    [ "$status" -ne 9 ] || refused "$name" "$url"
    [ "$status" -eq 0 ] || die "$name could not be downloaded ($url); run this again to go on with it"
    keep "$WORK/$name.part" "$2/$name"
  done 3<"$WORK/files"
}

list_drive() { drive --json --folder "$1" >"$2"; } # PAGE LISTING

# The command ----------------------------------------------------------------------------------------------------------

ONLY="data checkpoints books splits" OUT=.
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage && exit ;;
    --only | --out) [ $# -ge 2 ] || die "$1 needs a value (./download.sh --help)" ;;
    *) die "unknown argument $1 (./download.sh --help)" ;;
  esac
  case "$2" in *[![:space:]]*) ;; *) die "$1 needs a value (./download.sh --help)" ;; esac
  if [ "$1" = --only ]; then ONLY=$2; else OUT=$2; fi
  shift 2
done
WORK=$OUT/.download SUMS=$OUT/SHA256SUMS
for part in $ONLY; do
  case "$part" in
    data | checkpoints | books | splits) ;;
    *) die "--only $part: expected data, checkpoints, books or splits" ;;
  esac
done
mkdir -p "$OUT"
[ ! -L "$WORK" ] || die "$WORK is a link: remove it"
mkdir -p "$WORK"
rm -f "$WORK/tree.json" "$WORK/drive.json" "$WORK/files" "$WORK/errors"
for part in $ONLY; do
  say "$part:"
  case "$part" in
    data) from_drive '^(?!.*\.pth$)' data_file ;;
    checkpoints) from_drive '\.pth$' checkpoints ;;
    books) from_github "$BOOKS" released_books ;;
    splits) from_github "$SPLITS" '' ;;
  esac
done
rm -f "$WORK/tree.json" "$WORK/drive.json" "$WORK/files" "$WORK/errors"
rmdir "$WORK" 2>/dev/null || true

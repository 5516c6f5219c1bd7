#!/usr/bin/env bash
# Usage: build.sh PROGRAM NAME:TAG ARCHIVE
# Packs the program as an image that `docker load`, `ctr images import` and their like take: the program without its debug
# information, the libraries it is linked to, certificates of authorities, and nothing else. No shell, user 10001. The same
# files give the same image.
set -euo pipefail
program=$1
name=$2
archive=$(realpath -m "$3")

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{etc/ssl/certs,lib64,tmp,usr/bin,usr/lib,var/lib/apogee}
objcopy --strip-all "$program" "$root/usr/bin/apogee"

# As the loader finds them here; the loader itself goes where the program asks for it.
while read -r library; do
    case $library in
    */ld-linux*) mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library" ;;
    *) cp -L "$library" "$root/usr/lib/" ;;
    esac
done < <(ldd "$program" | grep -o '/[^ ]*')
ln -s usr/lib "$root/lib"
cp -L /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"
echo 'apogee:x:10001:10001::/var/lib/apogee:/none' >"$root/etc/passwd"
echo 'apogee:x:10001:' >"$root/etc/group"
chmod 1777 "$root/tmp"
chmod 0755 "$root/usr/bin/apogee" "$root"/usr/lib/* "$root"/lib64/*

pack=(tar -C "$root" --sort=name --mtime=@0 --numeric-owner -f "$work/layer.tar")
"${pack[@]}" -c --owner=0 --group=0 --exclude=./var/lib/apogee .
"${pack[@]}" -r --owner=10001 --group=10001 ./var/lib/apogee
layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) architecture=$(uname -m) ;;
esac
cat >"$work/config.json" <<EOF
{"architecture":"$architecture","os":"linux","config":{"User":"10001:10001","WorkingDir":"/var/lib/apogee",
"Entrypoint":["/usr/bin/apogee"],"Env":["PATH=/usr/bin"]},
"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},"history":[{"created_by":"k8s/image/build.sh"}]}
EOF
# Container runtimes know images by their full names only.
case $name in
*/*) full=$name ;;
*) full=docker.io/library/$name ;;
esac
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]' "$full" >"$work/manifest.json"
mkdir -p "$(dirname "$archive")"
tar -C "$work" --mtime=@0 --owner=0 --group=0 -cf "$archive" manifest.json config.json layer.tar
size=$(gzip -c "$work/layer.tar" | wc -c)
echo "$name is in $archive: $((size >> 20)) MiB compressed" >&2

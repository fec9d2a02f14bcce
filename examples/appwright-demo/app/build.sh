#!/bin/sh
# Builds a signed APK of the demo app: build.sh VERSION CODE [SCREENS], for example build.sh 1.5.0 10500, or
# build.sh 1.5.1 10501 1.5.0 for a version that shows the screens of another.
# Needs aapt, zipalign, apksigner and android-framework-res (Debian packages). The same sources give
# the same bytes, so the same sha256: qgjob recognises a build by that and does not install it twice.
set -eu
# aapt stamps files with local midnight of 1980-01-01: without this another time zone gives other bytes.
export TZ=UTC
if [ $# -lt 2 ] || [ $# -gt 3 ]; then
  echo "usage: build.sh VERSION CODE [SCREENS]   (SCREENS, or else VERSION, is one of screens/*.json)" >&2
  exit 2
fi
version=$1
code=$2
screens=${3:-$version}
here=$(cd "$(dirname "$0")" && pwd)
out=$(dirname "$here")/build/demo-$version.apk
framework=${ANDROID_FRAMEWORK_RES:-/usr/share/android-framework-res/framework-res.apk}

if [ ! -f "$here/screens/$screens.json" ]; then
  echo "build.sh: no screens of version $screens; there are: $(cd "$here/screens" && ls | sed 's/\.json$//' | tr '\n' ' ')" >&2
  exit 2
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/assets" "$(dirname "$out")"
cp "$here/screens/$screens.json" "$work/assets/screens.json"

aapt package -f -M "$here/AndroidManifest.xml" -I "$framework" -A "$work/assets" \
  --version-code "$code" --version-name "$version" -F "$work/unaligned.apk"
zipalign -f 4 "$work/unaligned.apk" "$work/aligned.apk"
# debug.keystore holds the key every Android developer has: alias androiddebugkey, password android.
# It is kept here because another key would be another signature, so another sha256.
apksigner sign --ks "$here/debug.keystore" --ks-pass pass:android --ks-key-alias androiddebugkey \
  --v4-signing-enabled false --out "$work/signed.apk" "$work/aligned.apk"
# Renamed at the end: whoever reads the build folder never sees half an APK.
mv "$work/signed.apk" "$out.part"
mv "$out.part" "$out"
echo "$out"

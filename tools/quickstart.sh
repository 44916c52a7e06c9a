#!/usr/bin/env bash
# Set up what is missing, build the firmware of variant R for the emulated device, and show boxes on photos.
# Extra arguments go to the demo: tools/quickstart.sh --photos my_photos/
set -euo pipefail
HERE=$PWD
. "$(dirname "$0")/setup.sh"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-2}"
if [ "$HAVE_EMULATOR" = 1 ]; then
    TARGET=qemu
    say "building the firmware of variant R for the emulated device"
    "$PYTHON" -m uhd.host build-fw --variant R --target qemu
else
    TARGET=onnx
    say "no emulator on this machine: showing the float model instead of the device"
fi
say "finding people on sample photographs ($TARGET)"
"$PYTHON" -m uhd.host demo --target "$TARGET" --output "$PWD/demo_output" "$@"
say "done. Pictures with boxes are in $PWD/demo_output"
cat <<EOF

Next:
  source ${VENV#"$HERE"/}/bin/activate
  python -m uhd.host demo --photos DIR                           # your own photos
  python -m uhd.host view --target qemu --photos DIR             # live, in the browser
  python -m uhd.host parity --target qemu --photos DIR           # device beside host, with YOLO labels also mAP
  python -m uhd.host build-fw --variant R --target esp32s3       # for a board, with ESP-IDF
  python -m uhd.host espdl inspect host/uhd/zoo/ultratinyod_r_esp32s3_speed.espdl
  python -m uhd.host train --variant R --images DIR --val DIR    # train on your own photos
EOF

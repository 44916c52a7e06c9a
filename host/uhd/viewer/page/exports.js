// Files for the user: COCO JSON and PNG.

const round = (value, digits) => Number(value.toFixed(digits));

/** What the log holds as a COCO data set; boxes in pixels, each annotation with its score. */
export function toCoco(log, device, config) {
  const names = device?.class_names?.length ? device.class_names : ["person"];
  const images = [];
  const annotations = [];
  for (const entry of log.entries()) {
    const width = entry.width || device?.input?.width || 1;
    const height = entry.height || device?.input?.height || 1;
    const id = images.length + 1;
    const name = entry.photo ?? `frame_${entry.frame_id}.png`;
    images.push({ id, file_name: name, width, height, frame_id: entry.frame_id, t: round(entry.t, 6) });
    for (const [score, cls, cx, cy, w, h] of entry.boxes) {
      const box = [(cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height].map((v) => round(v, 3));
      annotations.push({
        id: annotations.length + 1,
        image_id: id,
        category_id: cls + 1,
        bbox: box,
        area: round(box[2] * box[3], 3),
        score: round(score, 6),
        iscrowd: 0,
      });
    }
  }
  return {
    info: {
      description: "Detections shown by the UHD viewer",
      model: device?.name ?? "",
      model_hash: device?.model_hash ?? "",
      target: device?.target ?? "",
      score_threshold: config?.score_threshold ?? null,
      nms_iou: config?.nms_iou ?? null,
      date_created: new Date().toISOString(),
    },
    images,
    annotations,
    categories: names.map((name, index) => ({ id: index + 1, name })),
  };
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000); // the browser reads it after the click
}

/** 2026-01-31_12-30-59 */
export function stamp(now = new Date()) {
  const two = (value) => String(value).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  return `${day}_${two(now.getHours())}-${two(now.getMinutes())}-${two(now.getSeconds())}`;
}

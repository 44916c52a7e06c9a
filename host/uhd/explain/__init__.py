"""What integers do to a model, layer by layer: ranges, noise, head-room, mAP, time and memory."""

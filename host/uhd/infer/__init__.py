"""Inference on a PC: any model file to boxes on pictures, folders, videos and cameras."""

#pragma once
#define ESP_VIDEO_MIPI_CSI_DEVICE_NAME "/dev/video0"

#pragma once
#include <linux/videodev2.h>
#include <sys/time.h>
#define VIDIOC_S_DQBUF_TIMEOUT _IOWR('V', BASE_VIDIOC_PRIVATE + 6, struct timeval)

#pragma once
#include <stdio.h>
#define SHIM_LOG(level, tag, format, ...) (printf(level " %s: " format "\n", tag, ##__VA_ARGS__), fflush(stdout))
#define ESP_LOGE(tag, format, ...) SHIM_LOG("E", tag, format, ##__VA_ARGS__)
#define ESP_LOGW(tag, format, ...) SHIM_LOG("W", tag, format, ##__VA_ARGS__)
#define ESP_LOGI(tag, format, ...) SHIM_LOG("I", tag, format, ##__VA_ARGS__)

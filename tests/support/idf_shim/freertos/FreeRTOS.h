#pragma once
#include <stdint.h>
typedef uint32_t TickType_t;
typedef int BaseType_t;
typedef unsigned UBaseType_t;
typedef unsigned char StackType_t;
typedef struct { int unused; } StaticTask_t;
typedef void (*TaskFunction_t)(void*);
typedef void* TaskHandle_t;
#define pdTRUE 1
#define portTICK_PERIOD_MS 1u
#define portMAX_DELAY 0xffffffffu
#define pdMS_TO_TICKS(ms) ((TickType_t)(ms))

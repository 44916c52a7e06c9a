#pragma once
#include <pthread.h>
#include <stddef.h>
#include <unistd.h>
#include "FreeRTOS.h"
// Tasks are threads here: any of them may run at any time, which is harsher than the scheduler of a chip.
struct ShimTask {
  TaskFunction_t code;
  void* argument;
  pthread_mutex_t lock;
  pthread_cond_t woken;
  uint32_t notified;
};
inline thread_local ShimTask* shim_self = nullptr;
static inline void vTaskDelay(TickType_t ticks) { ticks == portMAX_DELAY ? (void)pause() : (void)usleep(1000 * ticks); }
static inline UBaseType_t uxTaskGetStackHighWaterMark(TaskHandle_t) { return 0; }
static inline void* shim_run(void* task) {
  shim_self = static_cast<ShimTask*>(task);
  shim_self->code(shim_self->argument);
  return nullptr;
}
inline TaskHandle_t xTaskCreateStaticPinnedToCore(TaskFunction_t code, const char*, uint32_t, void* argument,
                                                         UBaseType_t, StackType_t*, StaticTask_t*, BaseType_t) {
  static ShimTask tasks[4];  // not allocated, as the tasks of the firmware are not
  static int count = 0;
  ShimTask* task = &tasks[count++];
  *task = {code, argument, PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0};
  pthread_t thread;
  pthread_create(&thread, nullptr, shim_run, task);
  pthread_detach(thread);
  return task;
}
static inline void xTaskNotifyGive(TaskHandle_t handle) {
  auto* task = static_cast<ShimTask*>(handle);
  pthread_mutex_lock(&task->lock);
  task->notified++;
  pthread_cond_signal(&task->woken);
  pthread_mutex_unlock(&task->lock);
}
static inline uint32_t ulTaskNotifyTake(BaseType_t, TickType_t) {
  pthread_mutex_lock(&shim_self->lock);
  while (shim_self->notified == 0) pthread_cond_wait(&shim_self->woken, &shim_self->lock);
  const uint32_t count = shim_self->notified;
  shim_self->notified = 0;
  pthread_mutex_unlock(&shim_self->lock);
  return count;
}

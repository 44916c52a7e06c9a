#include <unistd.h>

extern "C" void app_main(void);
int main() {
  app_main();
  for (;;) pause();
}

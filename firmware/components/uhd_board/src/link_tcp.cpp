// The link of the program that ESP-IDF builds for the host (target linux): a TCP port on the loopback device.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "sdkconfig.h"
#include "uhd/link_port.hpp"

namespace uhd {
namespace {

// FreeRTOS on Linux changes tasks only inside its own calls, so nothing here may block in the kernel.
class TcpPort final : public LinkPort {
 public:
  esp_err_t open() override {
    uint16_t number = CONFIG_UHD_LINK_TCP_PORT;
    if (const char* text = getenv("UHD_LINK_PORT")) number = static_cast<uint16_t>(atoi(text));
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(number);
    socklen_t size = sizeof(address);
    const int yes = 1;
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (listener_ >= 0) unblock(listener_);
    if (listener_ < 0 || setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) != 0 ||
        bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(listener_, 1) != 0 ||
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      return ESP_FAIL;
    }
    printf("link on 127.0.0.1:%u\n", static_cast<unsigned>(ntohs(address.sin_port)));
    fflush(stdout);
    return ESP_OK;
  }

  const char* name() const override { return "TCP"; }
  void shutdown() override { exit(0); }

 protected:
  size_t receive(uint8_t* buffer, size_t capacity, uint32_t milliseconds) override {
    for (;;) {
      if (client_ < 0) accept_client();
      if (client_ >= 0) {
        const ssize_t count = recv(client_, buffer, capacity, 0);
        if (count > 0) return static_cast<size_t>(count);
        if (count == 0 || !is_temporary(errno)) close_client();
      }
      if (milliseconds == 0) return 0;
      milliseconds = sleep_a_tick(milliseconds);
    }
  }

  size_t transmit(const uint8_t* data, size_t size, uint32_t milliseconds) override {
    while (client_ >= 0) {
      const ssize_t count = send(client_, data, size, MSG_NOSIGNAL);
      if (count > 0) return static_cast<size_t>(count);
      if (!is_temporary(errno)) close_client();
      if (milliseconds == 0) break;
      milliseconds = sleep_a_tick(milliseconds);
    }
    return 0;
  }

 private:
  // A chip's port holds a few KB; the kernel would hold megabytes for a host that has stopped reading.
  static constexpr int kRoom = 65536;

  static bool is_temporary(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

  // By fcntl: ESP-IDF 6.2 wraps the calls on sockets, and one that became non-blocking in another way (SOCK_NONBLOCK,
  // accept4) would stop this task in recv() until bytes come.
  static void unblock(int socket) { fcntl(socket, F_SETFL, fcntl(socket, F_GETFL, 0) | O_NONBLOCK); }

  static uint32_t sleep_a_tick(uint32_t milliseconds) {
    vTaskDelay(1);
    return milliseconds > portTICK_PERIOD_MS ? milliseconds - portTICK_PERIOD_MS : 0;
  }

  void accept_client() {
    client_ = accept(listener_, nullptr, nullptr);
    if (client_ < 0) return;
    unblock(client_);
    const int yes = 1, room = kRoom;
    setsockopt(client_, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
    setsockopt(client_, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
  }

  void close_client() {
    close(client_);
    client_ = -1;
  }

  int listener_ = -1;
  int client_ = -1;
};

}  // namespace

LinkPort& link_port() {
  static TcpPort port;
  return port;
}

}  // namespace uhd

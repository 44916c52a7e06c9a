#include "uhd/sdcard.hpp"

#include "driver/sdmmc_host.h"
#include "esp_vfs_fat.h"
#include "sdkconfig.h"
#include "sdmmc_cmd.h"
#if CONFIG_IDF_TARGET_ESP32P4
#include "sd_pwr_ctrl_by_on_chip_ldo.h"
#endif

namespace uhd {
namespace {

constexpr char kMountPoint[] = "/sdcard";

sdmmc_card_t* card;
#if CONFIG_IDF_TARGET_ESP32P4
sd_pwr_ctrl_handle_t power;
#endif

}  // namespace

esp_err_t mount_sdcard() {
  sdmmc_host_t host = SDMMC_HOST_DEFAULT();
  sdmmc_slot_config_t slot = SDMMC_SLOT_CONFIG_DEFAULT();
#if CONFIG_IDF_TARGET_ESP32P4
  // Slot 0 has pins of its own, and its power comes from an LDO on the chip.
  host.slot = SDMMC_HOST_SLOT_0;
  slot.width = 4;
  sd_pwr_ctrl_ldo_config_t ldo = {};
  ldo.ldo_chan_id = 4;
  const esp_err_t powered = sd_pwr_ctrl_new_on_chip_ldo(&ldo, &power);
  if (powered != ESP_OK) return powered;
  host.pwr_ctrl_handle = power;
#else
  // ESP32-S3-EYE: one data line.
  slot.width = 1;
  slot.clk = GPIO_NUM_39;
  slot.cmd = GPIO_NUM_38;
  slot.d0 = GPIO_NUM_40;
  slot.flags |= SDMMC_SLOT_FLAG_INTERNAL_PULLUP;
#endif
  esp_vfs_fat_sdmmc_mount_config_t mount = {};
  mount.max_files = 1;
  const esp_err_t status = esp_vfs_fat_sdmmc_mount(kMountPoint, &host, &slot, &mount, &card);
  if (status != ESP_OK) unmount_sdcard();
  return status;
}

void unmount_sdcard() {
  if (card) esp_vfs_fat_sdcard_unmount(kMountPoint, card);
  card = nullptr;
#if CONFIG_IDF_TARGET_ESP32P4
  if (power) sd_pwr_ctrl_del_on_chip_ldo(power);
  power = nullptr;
#endif
}

}  // namespace uhd

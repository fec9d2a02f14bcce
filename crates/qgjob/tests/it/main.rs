mod architecture;
mod bundle_story;
mod adb_story;
mod appium_story;
mod device_bench;
mod gateway_story;

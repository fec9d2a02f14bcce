import { defineConfig, Platform } from "appwright";
import path from "path";

// The build under test: qgjob passes its path, a developer builds one with app/build.sh.
const buildPath = process.env.QGJOB_APP ?? path.join(__dirname, "build", "demo-1.5.0.apk");

// The specs in tests-special/ hang, crash or do not parse, to show what qgjob makes of it.
// They run only when the command line names one of them.
const special = process.argv.some((argument) => /tests\\?-special/.test(argument));

export default defineConfig({
  testDir: ".",
  testMatch: special ? ["tests/**/*.spec.js", "tests-special/**/*.spec.js"] : ["tests/**/*.spec.js"],
  projects: [
    {
      name: "emulator",
      use: {
        platform: Platform.ANDROID,
        device: { provider: "emulator", name: "Pixel 7", osVersion: "14" },
        buildPath,
        expectTimeout: 10_000,
      },
    },
    {
      name: "device",
      use: {
        platform: Platform.ANDROID,
        device: { provider: "local-device", udid: process.env.QGJOB_UDID },
        buildPath,
        expectTimeout: 10_000,
      },
    },
  ],
});

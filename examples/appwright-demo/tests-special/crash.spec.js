import { test, expect } from "appwright";

test("passes before the crash", async ({ device }) => {
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
});

// Ends the whole runner, not only this worker: no report is written and no session is closed.
test("takes the runner down", async ({ device }) => {
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
  process.kill(process.ppid, "SIGKILL");
  process.kill(process.pid, "SIGKILL");
});

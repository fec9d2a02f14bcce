import { test, expect } from "appwright";
import { id, signIn } from "../support/shop";

// The app dies under the test: the runner, the session and the device live on.
test("the app survives its own crash button", async ({ device }) => {
  await signIn(device);
  await device.getById(id("open_settings"), { exact: true }).tap();
  await device.getById(id("developer"), { exact: true }).tap();
  await device.getById(id("crash"), { exact: true }).tap();
  await expect(device.getByText("Developer options")).toBeVisible({ timeout: 2_000 });
});

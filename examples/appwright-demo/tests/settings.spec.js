import { test, expect } from "appwright";
import { signIn } from "../support/shop";

test("notifications can be turned on and off again", async ({ device }) => {
  await signIn(device);
  await device.getByText("Settings").tap();
  await expect(device.getByText("Notifications: off")).toBeVisible();
  await device.getByText("Turn notifications on").tap();
  await expect(device.getByText("Notifications: on")).toBeVisible();
  await device.getByText("Turn notifications off").tap();
  await expect(device.getByText("Notifications: off")).toBeVisible();
});

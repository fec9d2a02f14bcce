import { test, expect } from "appwright";
import { screenshot } from "../support/shop";

test("the welcome screen is attached as a picture", async ({ device }, testInfo) => {
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
  const png = await screenshot(device);
  expect(png.subarray(1, 4).toString("latin1")).toBe("PNG");
  await testInfo.attach("welcome", { body: png, contentType: "image/png" });
});

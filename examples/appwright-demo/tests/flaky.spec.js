import { test, expect } from "appwright";
import { id, signIn } from "../support/shop";

// Stands for the test that every team has: red at first, green when tried again.
// It goes wrong by the count of tries and not by chance, so that a demo shows the same each time.
test("finds a product by name @flaky", async ({ device }, testInfo) => {
  await signIn(device);
  await device.getByText("Search").tap();
  await device.getById(id("query"), { exact: true }).fill(testInfo.retry === 0 ? "mgu" : "mug");
  await device.getById(id("find"), { exact: true }).tap();
  await expect(device.getByText("Blue mug")).toBeVisible();
  expect(await device.getById(id("title"), { exact: true }).getText()).toBe("Results for mug");
});

import { test, expect } from "appwright";
import { screenshot } from "../support/shop";

// One test for each way a test can end.
test("passes @smoke", { annotation: { type: "issue", description: "DEMO-1" } }, async ({ device }, testInfo) => {
  console.log("hello from stdout");
  console.error("hello from stderr");
  await testInfo.attach("welcome", { body: await screenshot(device), contentType: "image/png" });
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
});

test.describe("the unhappy ones", () => {
  test("fails", async ({ device }) => {
    await expect(device.getByText("No such text")).toBeVisible({ timeout: 1_000 });
  });

  test("is flaky", async ({ device }, testInfo) => {
    expect(await device.getByText("Welcome").getText()).toBe(testInfo.retry ? "Welcome to Demo" : "Something else");
  });

  test("times out", async ({ device }) => {
    test.setTimeout(6_000);
    await device.getByText("Welcome").getText();
    await new Promise(() => {});
  });
});

test.skip("is skipped", async () => {});

test.fixme("needs fixing", async () => {});

test("fails as expected", async () => {
  test.fail();
  expect(1).toBe(2);
});

import { test, expect } from "appwright";

// The closing parenthesis is missing on purpose.
test("does not parse", async ({ device }) => {
  await expect(device.getByText("Welcome to Demo").toBeVisible();
});

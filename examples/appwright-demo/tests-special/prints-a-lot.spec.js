import { test, expect } from "appwright";

const lines = Number(process.env.PRINT_LINES ?? 20_000);

test("prints many lines and one long one", async ({ device }) => {
  for (let line = 1; line <= lines; line++) console.log(`line ${line} of ${lines} ${"x".repeat(80)}`);
  console.error("z".repeat(256 * 1024));
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
});

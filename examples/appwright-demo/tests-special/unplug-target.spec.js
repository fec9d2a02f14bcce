import { test, expect } from "appwright";

const seconds = Number(process.env.SLOW_SECONDS ?? 30);

// Says when it is busy on the device, so that whoever unplugs the phone knows that the test has begun.
// On a phone that stays connected it passes.
test("needs its device to the end", async ({ device }) => {
  await expect(device.getByText("Welcome to Demo")).toBeVisible();
  console.log("the test is on the device");
  const end = Date.now() + seconds * 1_000;
  while (Date.now() < end) {
    await device.getByText("Welcome to Demo").getText();
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
});

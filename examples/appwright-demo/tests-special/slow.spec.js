import { test, expect } from "appwright";

const seconds = Number(process.env.SLOW_SECONDS ?? 20);

// Two small steps a second on the device, so that a cancelled or unplugged run is noticed at once.
test("takes its time", async ({ device }) => {
  for (let step = 1; step <= seconds * 2; step++) {
    expect(await device.getByText("Welcome to Demo").getText()).toBe("Welcome to Demo");
    if (step % 2 === 0) console.log(`second ${step / 2} of ${seconds}`);
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
});

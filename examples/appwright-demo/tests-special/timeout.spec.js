import { test } from "appwright";

// Never ends by itself and sets no limit of its own: the runner's or the job's timeout has to end it.
test("waits for ever", async ({ device }) => {
  await device.getByText("Welcome to Demo").getText();
  await new Promise(() => {});
});

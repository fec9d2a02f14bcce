import { test, expect } from "appwright";
import { id } from "../support/shop";

test("sends a link to the address given", async ({ device }) => {
  await device.getByText("I have an account").tap();
  await device.getByText("Forgot password?").tap();
  await device.getById(id("email"), { exact: true }).fill("ada@example.org");
  await device.getByText("Send link").tap();
  await expect(device.getByText("We wrote to ada@example.org")).toBeVisible();
});

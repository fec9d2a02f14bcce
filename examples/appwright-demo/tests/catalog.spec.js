import { test, expect } from "appwright";
import { signIn } from "../support/shop";

test("lists every product with its price", async ({ device }) => {
  await signIn(device);
  for (const product of ["Blue mug, € 12.00", "Green tea, € 4.50", "Notebook, € 7.25"]) {
    await expect(device.getByText(product)).toBeVisible();
  }
});

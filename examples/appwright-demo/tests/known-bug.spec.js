import { test, expect } from "appwright";
import { addToCart, id, signIn } from "../support/shop";

// Passes on 1.4.2. Version 1.5.0 says that the coupon applies and then forgets to subtract it:
// this test fails there, on purpose.
test("the coupon is subtracted from the total", async ({ device }) => {
  await signIn(device);
  await addToCart(device, "mug");
  await device.getById(id("open_cart"), { exact: true }).tap();
  await device.getById(id("coupon"), { exact: true }).fill("SAVE10");
  await device.getByText("Apply coupon").tap();
  await expect(device.getByText("Coupon SAVE10 applied")).toBeVisible();
  expect(await device.getById(id("total"), { exact: true }).getText()).toBe("Total: € 10.80");
});

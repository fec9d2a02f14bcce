import { test, expect } from "appwright";
import { id, signIn } from "../support/shop";

test("every screen leads back to the shop", async ({ device }) => {
  await signIn(device);
  for (const [open, title] of [["item_tea", "Green tea"], ["open_search", "Search"], ["open_cart", "Your cart"], ["open_profile", "Profile"], ["open_settings", "Settings"]]) {
    await device.getById(id(open), { exact: true }).tap();
    expect(await device.getById(id("title"), { exact: true }).getText()).toBe(title);
    await device.getByText("Back to shop").tap();
  }
  await expect(device.getByText("Hello Ada")).toBeVisible();
});
